"""The models, one file each, all keeping the contract of base.py."""
