"""Reports for people, each one HTML file with its plots in it.

Values in, text out. Of the extra ``report`` alone: whoever serves hooks needs none of it.
"""
