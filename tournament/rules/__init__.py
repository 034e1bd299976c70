"""What decides: the score and the policies, the ledger of credits, the screening of candidates."""
