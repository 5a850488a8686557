"""A local web page for people who do not use terminals: what one may say of a clip, what is being
done to it, and the page itself.
"""
