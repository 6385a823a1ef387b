"""The page of the HTML report (Jinja). Everything is inside it: it opens without a network."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em;
        color: #222; }
 table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
 th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right; }
 th:first-child, td:first-child { text-align: left; }
 td.best { font-weight: bold; }
 figure { margin: 1.5em 0; } figcaption { color: #555; }
 img { max-width: 100%; }
 .note { color: #555; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="note">{{ subtitle }}</p>

<h2>Metrics</h2>
<table>
<tr><th>model</th>{% for m in columns %}<th>{{ m }}</th>{% endfor %}</tr>
{% for row in rows %}
<tr><td>{{ row.name }}</td>
{% for cell in row.cells %}<td{% if cell.best %} class="best"{% endif %}>{{ cell.text }}</td>
{% endfor %}</tr>
{% endfor %}
</table>
<p class="note">Mean over users; in brackets the {{ confidence }} bootstrap interval of the mean.
Bold: the best of the column, where one is better or worse by nature.</p>

{% if comparisons %}
<h2>Paired comparison with {{ base }}</h2>
<table>
<tr><th>model</th><th>metric</th><th>difference</th><th>interval</th><th>p</th><th>better</th>
<th>worse</th><th>equal</th></tr>
{% for c in comparisons %}
<tr><td>{{ c.name }}</td><td>{{ c.metric }}</td><td>{{ c.difference }}</td><td>{{ c.interval }}</td>
<td>{{ c.p }}</td><td>{{ c.wins }}</td><td>{{ c.losses }}</td><td>{{ c.ties }}</td></tr>
{% endfor %}
</table>
<p class="note">Same users, same held-out items; p from random sign flips. Better, worse, equal:
number of users.</p>
{% endif %}

{% for plot in plots %}
<figure><img alt="{{ plot.caption }}" src="data:image/png;base64,{{ plot.data }}">
<figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}

{% for group in slices %}
<h2>By {{ group.by }}</h2>
<table>
<tr><th>slice</th><th>users</th>{% for n in group.names %}<th>{{ n }}</th>{% endfor %}</tr>
{% for row in group.rows %}
<tr><td>{{ row.value }}</td><td>{{ row.users }}</td>
{% for v in row.cells %}<td>{{ v }}</td>{% endfor %}</tr>
{% endfor %}
</table>
<p class="note">{{ group.metric }}</p>
{% endfor %}

{% for table in exposure %}
<h2>Exposure by {{ table.by }}</h2>
<table>
<tr><th>group</th><th>of the catalogue</th><th>of the demand</th>
{% for n in table.names %}<th>{{ n }}</th>{% endfor %}</tr>
{% for row in table.rows %}
<tr><td>{{ row.group }}</td>{% for v in row.shares %}<td>{{ v }}</td>{% endfor %}
{% for v in row.cells %}<td>{{ v }}</td>{% endfor %}</tr>
{% endfor %}
{% for against, cells in table.last %}
<tr><td>disparity with the {{ against }}</td><td></td><td></td>
{% for v in cells %}<td>{{ v }}</td>{% endfor %}</tr>
{% endfor %}
</table>
<p class="note">Share of the attention in the first {{ table.k }} places (a place counts
1 / log2(rank + 1)). Disparity: the share that would have to move to be shown in proportion.</p>
{% endfor %}
</body>
</html>
"""
