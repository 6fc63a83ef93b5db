"""Reading a bundle: every byte is a listed one, its graphs are harmless, and they compute what was proven."""
