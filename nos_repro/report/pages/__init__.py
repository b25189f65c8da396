"""The HTML pages: from what the records say to plain data, from that to files.

Another page is a subclass of `page.Page` with its data as fields, and a template that extends
`base.html`. `{{ table(it, label, name) }}` there prints a `PageTable` that sorts, filters, is
downloaded and has a link for every cell; `{{ badge(it) }}` prints a verdict; a chart in `charts`
joins the page's legend. `render` makes the file, and the browser tests hand it to axe.
"""
