"""How fast the service is, beside floors and peers, on one machine in one run: `python -m bench`, see README.md."""
