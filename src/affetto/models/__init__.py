"""Networks: one a file, behind the contract of ``encoder.py``."""
