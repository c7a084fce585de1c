"""Say a diagnosis in words: the verdict, and the reasons for it."""

import numpy as np

from bonesoup.diagnose.lines import TOGETHER
from bonesoup.evaluation.units import UNITS


def number(value: float) -> str:
    # Rounded first, so that no tiny loss is written as -0.
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def interval(estimate: dict) -> str:
    return f"[{number(estimate['low'])}, {number(estimate['high'])}]"


def verdict(findings: dict) -> str:
    """State the prediction in one line."""
    prediction = findings["prediction"][findings["unit"]]
    scale = "SFT standard deviations of " + UNITS[findings["unit"]]
    size = f"{number(prediction['gain'])} {interval(prediction)} {scale}"
    if prediction["verdict"] == "tie":
        return f"Bone Soup is predicted to tie with Rewarded Soup at interior preferences: {size}."
    return (
        f"Bone Soup is predicted to {prediction['verdict']} against Rewarded Soup at interior preferences, by {size}."
    )


def reasons(findings: dict) -> list[str]:
    """List the reasons for the verdict, and what could make it wrong."""
    unit = findings["unit"]
    soup, *controls = findings["short_runs"]
    unfinished = float(np.mean([moved[unit]["value"] for moved in controls]))
    listed = [
        f"{findings['steps']} more steps from the even Rewarded Soup gain {number(soup[unit]['value'])} "
        f"{interval(soup[unit])}, from the specialists on their own rewards {number(unfinished)} on average: "
        f"merging misses {number(findings['room'][unit]['value'])}",
    ]
    if unit != "reward":
        learned = findings["prediction"]["reward"]
        listed.append(f"in learned reward the prediction is {number(learned['gain'])} {interval(learned)}")
    prediction = findings["prediction"][unit]
    vertices, lost = prediction["vertices"], prediction["extrapolating"]["vertices"]
    rate = number(-findings["extrapolation"][unit]["value"])
    if vertices["value"]:
        listed.append(
            f"at the vertices the prediction is {number(vertices['value'])} {interval(vertices)}: "
            f"{number(vertices['value'] + lost)} for what merging misses, and {number(-lost)} because backbones "
            f"extrapolate there ({rate} for each multiple of one policy's training noise that their coefficients add)"
        )
    for pair in findings["pairs"]:
        d = pair["asymmetry"]
        text = f"{pair['first']} and {pair['second']}: along the line between their specialists the asymmetry is "
        text += f"{number(d['value'])} {interval(d)}"
        if "gain" in pair:
            text += (
                f", from which alone scalar theory would predict {number(pair['gain']['value'])}: "
                "it sees one direction, and asymmetries of opposite sign in others cancel there"
            )
        listed.append(text)
    listed.append(_connectivity(findings))
    for moved in findings["movement"]:
        listed.append(f"{moved['slot']} moved {moved['value']:.1f} nats per response: {moved['verdict']}")
    needed, evaluated = findings["noise"]["prompts_needed"], findings["noise"]["prompts_evaluated"]
    if needed:
        enough = "enough" if needed <= evaluated else "too few"
        listed.append(
            f"a gain of this size at the even preference takes {needed} test prompts to tell "
            f"({findings['confidence']:.0%}, four times in five); evaluation.samples is {evaluated}: {enough}"
        )
    listed.append("the interval is that of the prompts; training seeds vary a result several times as much")
    return listed


def _connectivity(findings: dict) -> str:
    """Say whether mixtures are at least as good as their parts, in the mean of the objectives."""
    barriers = {
        f"{line['start']} to {line['end']}": line[findings["unit"]][TOGETHER]["barrier"] for line in findings["lines"]
    }
    broken = [f"{name} by {barrier['value']:.2f}" for name, barrier in barriers.items() if barrier["low"] > 0]
    if broken:
        return "mixtures fall below the straight line between what they mix, in the mean score: " + ", ".join(broken)
    return (
        "no line falls below the straight line between its ends in the mean score: the policies are linearly connected"
    )
