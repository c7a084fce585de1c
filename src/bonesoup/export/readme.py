"""Write the parts of an export's README.md that every engine shares."""

import numpy as np

import bonesoup
from bonesoup.export.layout import Layout, Recipe, grid


def card(title: str, recipe: Recipe, text: str) -> str:
    """Return README.md: a title, where the soup comes from, and the engine's own text."""
    return f"# {title}\n\nFrom {recipe.place}, by bonesoup {bonesoup.__version__}.\n\n{text.strip()}\n"


def reachable(layout: Layout) -> dict[str, dict[str, float]]:
    """Return {name: {adapter: scale}} of the named mixtures that the layout can express."""
    named = layout.recipe.named()
    kept = {name: values for name, values in named.items() if layout.folded is None or abs(values.sum() - 1) < 1e-6}
    return {name: layout.scales(values) for name, values in kept.items()}


def explanation(layout: Layout) -> str:
    """Say what the adapters and their numbers are, with a table and, where it is linear, the formula."""
    recipe, names = layout.recipe, list(layout.adapters)
    if layout.folded:
        count = "one number" if len(names) == 1 else f"{len(names)} numbers"
        text = (
            f"The coefficients of every preference sum to 1, so the policy {layout.folded} is folded into the base and "
            f"{count} of the adapter{'s' * (len(names) > 1)} {', '.join(names)} (each minus {layout.folded}) gives any "
            f"preference. With 0 the base answers as {layout.folded}."
        )
    else:
        text = f"A scale is the weight of an adapter ({', '.join(names)}), any real number. With 0 the base answers."
    shown = reachable(layout)
    if left_out := recipe.named().keys() - shown.keys():
        text += f" Not in the table, since their weights do not sum to 1: {', '.join(sorted(left_out))}."
    rows = [(name, scales) for name, scales in shown.items()]
    for point in grid(recipe):
        title = " ".join(f"{name}={weight:g}" for name, weight in zip(recipe.soup.objectives, point, strict=True))
        rows.append((title, layout.scales(recipe.soup.coefficients(point))))
    lines = [f"| mixture | {' | '.join(f'scale of {name}' for name in names)} |", "|---" * (1 + len(names)) + "|"]
    lines += [f"| {name} | {' | '.join(f'{scales[each]:.6g}' for each in names)} |" for name, scales in rows]
    return "\n\n".join(part for part in (text, _formula(layout), "\n".join(lines)) if part)


def _formula(layout: Layout) -> str:
    """Write each scale as a sum over objectives, if the soup solves linear equations."""
    soup = layout.recipe.soup
    if soup.mapping != "solve":
        return ""
    corners = [layout.scales(soup.coefficients(corner)) for corner in np.eye(len(soup.objectives))]
    lines = []
    for name in layout.adapters:
        terms = " ".join(f"{corner[name]:+.6g} * {o}" for corner, o in zip(corners, soup.objectives, strict=True))
        lines.append(f"    scale of {name} = {terms}")
    return "At a preference, weights of the objectives that sum to 1:\n\n" + "\n".join(lines)


def first_example(layout: Layout) -> tuple[str, dict[str, float]]:
    """Return the named mixture that the README's request asks for.

    Raises:
        ValueError: there is none.
    """
    shown = reachable(layout)
    if not shown:
        raise ValueError("no preference and no preset has a name: name one, so that the export can show how to ask")
    return next(iter(shown.items()))
