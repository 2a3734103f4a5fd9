"""How each field is answered, and each mutation carried out."""
