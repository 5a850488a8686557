"""What VISION-XL is compared with: the authors' released code as values, and rival methods."""
