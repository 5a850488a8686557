"""From file to file: a part of a video, its measurement, the plan of a restoration, the work, the
same with a simulated measurement, and a page about it.
"""
