"""The association room."""
