"""What the compatibility table is made of: the files, those drawn by hand among them, and the page."""
