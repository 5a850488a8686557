"""What happened to the video: one of the six tasks with its numbers, a mask that is a picture, or
an operator of one's own; how a clip is measured by it; and what a file says about it.
"""
