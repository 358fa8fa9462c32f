"""How a ledger is opened, runs its transactions and reports failures, for each way to reach one.

Operations know none of this; importing one of these modules does not load the others.
"""
