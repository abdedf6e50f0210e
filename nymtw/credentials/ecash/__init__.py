"""Compact e-cash: books of tickets that a receiver checks by itself; who spends one twice is found, and named.

Camenisch, Hohenberger, Lysyanskaya, "Compact e-cash" (EUROCRYPT 2005), with threshold issuance after Rial and
Piotrowska; docs/credentials.md has what is done otherwise here.
"""

from nymtw.credentials.ecash.bases import TICKETS, Parameters, parameters
from nymtw.credentials.ecash.book import Helpers, TicketBook, pay, pay_with, ticket_book
from nymtw.credentials.ecash.helpers import (
    Dates,
    HelperSignatures,
    Indices,
    aggregate_helpers,
    check_helpers,
    sign_helpers,
)
from nymtw.credentials.ecash.identification import Comparison, Finding, identify
from nymtw.credentials.ecash.payments import Payment, PaymentInfo, verify_payment
from nymtw.credentials.ecash.withdrawal import Withdrawal, check_withdrawal, issue, signed_parts, withdraw

__all__ = [
    "TICKETS",
    "Comparison",
    "Dates",
    "Finding",
    "HelperSignatures",
    "Helpers",
    "Indices",
    "Parameters",
    "Payment",
    "PaymentInfo",
    "TicketBook",
    "Withdrawal",
    "aggregate_helpers",
    "check_helpers",
    "check_withdrawal",
    "identify",
    "issue",
    "parameters",
    "pay",
    "pay_with",
    "sign_helpers",
    "signed_parts",
    "ticket_book",
    "verify_payment",
    "withdraw",
]
