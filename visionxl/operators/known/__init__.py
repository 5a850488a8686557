"""What is known of an operator: what its class declares, what products with it tell, and whether
its transpose is right.
"""
