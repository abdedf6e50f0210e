//! Drives the sphinx-packet crate from nymtw's tests: one request a line on stdin, one answer a line on stdout.
//!
//! Words are separated by spaces, bytes are hex, an empty message is `-`. A route is `address:public-key,...`, delays are
//! nanoseconds, one for each hop (the crate ignores the last one). Answers start with `ok`, `forward`, `final` or `error`.
//!
//!     build VERSION PAYLOAD-SIZE SECRET MESSAGE ROUTE DELAYS DESTINATION IDENTIFIER   ok PACKET
//!     process PRIVATE-KEY PACKET        forward ADDRESS DELAY PACKET TAG | final DESTINATION IDENTIFIER VERSION PAYLOAD MESSAGE TAG
//!     surb VERSION SECRET ROUTE DELAYS DESTINATION IDENTIFIER                         ok SURB
//!     use PAYLOAD-SIZE SURB MESSAGE                                                   ok ADDRESS PACKET
//!     bench-process ROUNDS PRIVATE-KEY PACKET                                         ok NANOSECONDS (one operation)
//!     bench-build ROUNDS, then as build without SECRET                                ok NANOSECONDS (one operation)

#[cfg(not(feature = "newest"))]
use sphinx_packet;
#[cfg(feature = "newest")]
use sphinx_packet_newest as sphinx_packet;
#[cfg(not(feature = "newest"))]
use x25519_dalek;
#[cfg(feature = "newest")]
use x25519_dalek_newest as x25519_dalek;

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use sphinx_packet::header::delays::Delay;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use sphinx_packet::surb::{SURBMaterial, SURB};
use sphinx_packet::version::Version;
use sphinx_packet::{ProcessedPacketData, SphinxPacket, SphinxPacketBuilder};
use x25519_dalek::{PublicKey, StaticSecret};

type Answer = Result<String, String>;

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string().replace('\n', " ")
}

fn bytes(word: &str) -> Result<Vec<u8>, String> {
    if word == "-" {
        return Ok(Vec::new());
    }
    hex::decode(word).map_err(text)
}

fn array<const N: usize>(word: &str) -> Result<[u8; N], String> {
    bytes(word)?.try_into().map_err(|_| format!("expected {N} bytes"))
}

fn show(data: &[u8]) -> String {
    if data.is_empty() {
        "-".to_string()
    } else {
        hex::encode(data)
    }
}

fn route(word: &str) -> Result<Vec<Node>, String> {
    word.split(',')
        .map(|hop| {
            let (address, key) = hop.split_once(':').ok_or("a hop is address:key")?;
            Ok(Node::new(
                NodeAddressBytes::from_bytes(array(address)?),
                PublicKey::from(array::<32>(key)?),
            ))
        })
        .collect()
}

fn delays(word: &str) -> Result<Vec<Delay>, String> {
    word.split(',')
        .map(|nanoseconds| Ok(Delay::new_from_nanos(nanoseconds.parse().map_err(text)?)))
        .collect()
}

fn destination(address: &str, identifier: &str) -> Result<Destination, String> {
    Ok(Destination::new(
        DestinationAddressBytes::from_bytes(array(address)?),
        array(identifier)?,
    ))
}

fn version(word: &str) -> Result<Version, String> {
    Ok(Version::new(word.parse().map_err(text)?))
}

fn process(key: &str, packet: &str) -> Answer {
    let key = StaticSecret::from(array::<32>(key)?);
    let packet = SphinxPacket::from_bytes(&bytes(packet)?).map_err(text)?;
    let tag = hex::encode(packet.header.compute_expanded_shared_secret(&key).replay_tag());
    let processed = packet.process(&key).map_err(text)?;
    Ok(match processed.data {
        ProcessedPacketData::ForwardHop { next_hop_packet, next_hop_address, delay } => format!(
            "forward {} {} {} {tag}",
            hex::encode(next_hop_address.to_bytes()),
            delay.to_nanos(),
            hex::encode(next_hop_packet.to_bytes())
        ),
        ProcessedPacketData::FinalHop { destination, identifier, payload } => {
            let block = hex::encode(payload.as_bytes());
            let message = match payload.recover_plaintext() {
                Ok(message) => show(&message),
                Err(_) => "unreadable".to_string(),
            };
            format!(
                "final {} {} {} {block} {message} {tag}",
                hex::encode(destination.as_bytes()),
                hex::encode(identifier),
                processed.version.value()
            )
        }
    })
}

#[cfg(not(feature = "newest"))]
fn surb_material(route: Vec<Node>, delays: Vec<Delay>, to: Destination, version: Version) -> SURBMaterial {
    SURBMaterial::new(route, delays, to).with_version(version)
}

#[cfg(feature = "newest")]
fn surb_material(route: Vec<Node>, delays: Vec<Delay>, to: Destination, version: Version) -> SURBMaterial {
    SURBMaterial::new(route, delays, to, version)
}

fn per_round(started: Instant, rounds: u32) -> Answer {
    Ok(format!("ok {}", started.elapsed().as_nanos() as f64 / f64::from(rounds)))
}

fn answer(line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["build", v, size, secret, message, hops, delay, to, id] => {
            let secret = StaticSecret::from(array::<32>(secret)?);
            let packet = SphinxPacketBuilder::new()
                .with_version(version(v)?)
                .with_payload_size(size.parse().map_err(text)?)
                .with_initial_secret(&secret)
                .build_packet(bytes(message)?, &route(hops)?, &destination(to, id)?, &delays(delay)?)
                .map_err(text)?;
            Ok(format!("ok {}", hex::encode(packet.to_bytes())))
        }
        ["process", key, packet] => process(key, packet),
        ["surb", v, secret, hops, delay, to, id] => {
            let material = surb_material(route(hops)?, delays(delay)?, destination(to, id)?, version(v)?);
            let surb = SURB::new(StaticSecret::from(array::<32>(secret)?), material).map_err(text)?;
            Ok(format!("ok {}", hex::encode(surb.to_bytes())))
        }
        ["use", size, surb, message] => {
            let surb = SURB::from_bytes(&bytes(surb)?).map_err(text)?;
            let (packet, address) = surb
                .use_surb(&bytes(message)?, size.parse().map_err(text)?)
                .map_err(text)?;
            Ok(format!("ok {} {}", hex::encode(address.to_bytes()), hex::encode(packet.to_bytes())))
        }
        ["bench-process", rounds, key, packet] => {
            let (rounds, packet) = (rounds.parse().map_err(text)?, bytes(packet)?);
            let key = StaticSecret::from(array::<32>(key)?);
            let started = Instant::now();
            for _ in 0..rounds {
                let processed = SphinxPacket::from_bytes(black_box(&packet)).map_err(text)?.process(&key).map_err(text)?;
                match processed.data {
                    ProcessedPacketData::ForwardHop { next_hop_packet, .. } => {
                        black_box(next_hop_packet.to_bytes());
                    }
                    ProcessedPacketData::FinalHop { payload, .. } => {
                        black_box(payload);
                    }
                }
            }
            per_round(started, rounds)
        }
        ["bench-build", rounds, v, size, message, hops, delay, to, id] => {
            let (rounds, message) = (rounds.parse().map_err(text)?, bytes(message)?);
            let (route, delays, to) = (route(hops)?, delays(delay)?, destination(to, id)?);
            let builder = SphinxPacketBuilder::new()
                .with_version(version(v)?)
                .with_payload_size(size.parse().map_err(text)?);
            let started = Instant::now();
            for _ in 0..rounds {
                let packet = builder.build_packet(black_box(&message), &route, &to, &delays).map_err(text)?;
                black_box(packet.to_bytes());
            }
            per_round(started, rounds)
        }
        _ => Err("unknown request".to_string()),
    }
}

fn main() {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("stdin is readable");
        let reply = answer(&line).unwrap_or_else(|error| format!("error {error}"));
        writeln!(output, "{reply}").expect("stdout is writable");
        output.flush().expect("stdout is writable");
    }
}
