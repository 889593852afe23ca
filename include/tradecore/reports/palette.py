"""The colours of all pages, as CSS variables: light, dark, and what a printer gets."""

from __future__ import annotations

_NAMES = (
    "page", "card", "raised", "ink", "ink-2", "line", "muted", "accent", "accent-soft", "gain", "loss", "sell",
    "second", "warn", "warn-soft", "loss-soft", "gain-soft",
)  # fmt: skip
_LIGHT = (
    "#f4f5f7", "#ffffff", "#f7f8fa", "#14181f", "#566070", "#e2e5ea", "#c3c9d2", "#2456c6", "#e6edfb", "#0b7a58",
    "#c4371f", "#8a3fb5", "#8b94a3", "#9a5b00", "#fdf3e0", "#fcebe8", "#e4f4ee",
)  # fmt: skip
_DARK = (
    "#0e1116", "#161a21", "#1b2028", "#e7eaef", "#98a3b3", "#29303a", "#465060", "#7aa5ff", "#1b2a47", "#3cc596",
    "#ff7b66", "#d08bf2", "#7d8798", "#f0b450", "#2e2413", "#351c19", "#12301f",
)  # fmt: skip
_PRINT = (
    "#fff", "#fff", "#fff", "#111", "#4a5261", "#d8dce2", "#aeb5c0", "#2456c6", "#e6edfb", "#0b7a58", "#b52f19",
    "#7a34a3", "#848d9b", "#8a5200", "#fdf3e0", "#fcebe8", "#e4f4ee",
)  # fmt: skip


def palette_css(*, choice: bool = False) -> str:
    """Return the variables: the reader's system decides between light and dark.

    choice: two radio buttons of the page, #theme-light and #theme-dark, decide over the system. No script is needed,
    and a browser that does not know `:has` keeps the system's theme. Paper is always light.
    """
    light, dark, paper = (
        " ".join(f"--{name}: {value};" for name, value in zip(_NAMES, values, strict=True))
        for values in (_LIGHT, _DARK, _PRINT)
    )
    rules = [
        f":root {{ color-scheme: light dark; {light} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}",
    ]
    picked = {name: f":root:has(#theme-{name}:checked)" for name in ("light", "dark")} if choice else {}
    for name, values in (("light", light), ("dark", dark)):
        if choice:
            rules.append(f"{picked[name]} {{ color-scheme: {name}; {values} }}")
    rules.append(f"@media print {{ {', '.join([':root', *picked.values()])} {{ color-scheme: light; {paper} }} }}")
    return "\n".join(rules) + "\n"
