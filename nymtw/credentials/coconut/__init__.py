"""Coconut: threshold-issued credentials, each spent once, whose double spend a ledger prevents."""

from nymtw.credentials.coconut.bases import Parameters, parameters
from nymtw.credentials.coconut.issuing import Request, blind_sign, check_request, request
from nymtw.credentials.coconut.showing import Context, Credential, Show, credential, show, verify_show, verify_shows

__all__ = [
    "Context",
    "Credential",
    "Parameters",
    "Request",
    "Show",
    "blind_sign",
    "check_request",
    "credential",
    "parameters",
    "request",
    "show",
    "verify_show",
    "verify_shows",
]
