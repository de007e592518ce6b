"""How good boxes and tracks are: average precision, CLEAR, IDF1, HOTA."""
