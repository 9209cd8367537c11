def page(record):
    return "<html></html>"
