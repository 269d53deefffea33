"""The hardened launcher of worker processes, and what it says about itself."""
