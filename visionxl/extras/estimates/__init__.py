"""What a measurement says of itself: how noisy it is, where it has holes, whether it was pressed by
JPEG, and which blur it went through.
"""
