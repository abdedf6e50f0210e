#!/usr/bin/env bash
# Send one message over a client's TCP socket with nothing but bash: send.sh PORT ADDRESS < message
# The client runs as: nym-client socket --socket tcp --port PORT
set -euo pipefail
port=$1 address=$2
token=$(<"${NYMTW_HOME:-$HOME/.nym}/sockets/$port.token")
exec 3<>"/dev/tcp/127.0.0.1/$port"
message=$(base64 | tr -d '\n')
printf '{"authenticate": {"token": "%s"}}\n' "$token" >&3
printf '{"subscribe": {"progress": true, "confirm": true}}\n' >&3
printf '{"send": {"message": "%s", "recipient": "%s"}}\n' "$message" "$address" >&3
while IFS= read -r answer <&3; do
    case $answer in
        *'"exception"'*) echo "$answer" >&2; exit 1 ;;
        *'"send"'*) id=$(sed 's/.*"id":"\([0-9a-f]*\)".*/\1/' <<<"$answer"); echo "accepted as $id" ;;
        *"${id:-none}"*'"done"'*) echo delivered; exit 0 ;;
        *"${id:-none}"*'"failed"'*) echo failed >&2; exit 1 ;;
    esac
done
exit 1
