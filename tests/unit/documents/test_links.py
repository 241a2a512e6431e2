"""
Links in documents: what leads nowhere is named with its line, and nothing else is.
"""

from __future__ import annotations

from documents.links import faults, read, slug

PAGE = """# The page

A [link](other.md), a [part](other.md#two-words), [here](#the-page), [elsewhere](https://ca.example/x.md#y),
[mail](mailto:pki@corp.example), a folder [of it](folder/), `[code](nowhere.md)` and

```
[more](nowhere.md)
```

| a | table |
|---|---|
| [x](other.md#again-1) | ![picture](picture.svg) |
"""
OTHER = """## Two `words`

## Again

### Again

<a id="by-hand"></a>
"""


def told(tmp_path, page):
    files = {
        "page.md": page,
        "other.md": OTHER,
        "picture.svg": "<svg/>",
        "folder/one.md": "[up](../other.md#by-hand)",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    known = frozenset(tmp_path / name for name in files)
    # What only lies there is not in the repository.
    (tmp_path / "untracked.md").write_text("")
    return list(faults(tmp_path, sorted(path for path in known if path.suffix == ".md"), known=known))


def test_links_that_lead_to_files_headings_and_other_hosts_are_no_fault(tmp_path):
    assert [] == told(tmp_path, PAGE)


def test_links_that_lead_nowhere_are_named_with_their_line(tmp_path):
    page = (
        '[a](gone.md)\n\n[b](other.md#gone)\n\n![c](gone.svg)\n\n[d](#gone)\n\n<img src="gone.png">\n\n'
        "[e](untracked.md)\n\n[f](picture.svg#part)\n"
    )
    assert [
        "page.md:1: gone.md: no such file in the repository",
        "page.md:3: other.md#gone: no such heading",
        "page.md:5: gone.svg: no such file in the repository",
        "page.md:7: #gone: no such heading",
        "page.md:9: gone.png: no such file in the repository",
        "page.md:11: untracked.md: no such file in the repository",
        "page.md:13: picture.svg#part: no such heading",
    ] == told(tmp_path, page)


def test_anchor_is_that_of_the_code_hosts():
    assert ["3-the-exit-library", "trustname", "what-imports-what-é_x"] == [
        slug(heading) for heading in ("3. The exit library", "[trust.NAME]", "What imports what? É_x")
    ]


def test_reference_links_and_duplicate_headings_are_read():
    document = read("[a][one]\n\n[one]: other.md\n\n# X\n\n# X\n")
    assert ["other.md"] == [link.target for link in document.links]
    assert frozenset({"x", "x-1"}) == document.anchors
