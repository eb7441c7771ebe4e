"""Reports as Markdown and as one HTML file with its plots in it, made from what is stored."""
