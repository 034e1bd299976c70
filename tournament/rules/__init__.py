"""What decides: the score, the ledger of credits, the screening of candidates."""
