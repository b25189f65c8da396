"""What the papers claim in words, tested from records at whatever scale there are some."""
