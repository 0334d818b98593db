"""What the records say: Table 2, the paper's claims, and the interpretations of what it leaves open."""
