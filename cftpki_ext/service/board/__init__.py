"""
The service's side of the verdict board (docs/adr/0025): what hosts are given to answer by themselves, and what they tell.
"""
