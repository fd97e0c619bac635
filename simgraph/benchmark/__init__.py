"""Tasks with known answers, written in the language, and programs that measure against them."""
