"""What VISION-XL is compared with: the authors' released code, and rival methods, both as presets
made of steps.
"""
