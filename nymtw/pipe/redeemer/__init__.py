"""A redeemer: lets tokens out again on Ethereum, together with enough of its kind."""
