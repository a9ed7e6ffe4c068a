"""Pages of text, and other photographs of a few dark things on a bright, even ground.

Letters are so near to each other that the latent image of few gradients melts their strokes. But it also
has few pixels that differ from the paper (Pan et al. 2014), which is the better guide.
"""

import torch

from asnet.networks.blurred_photographs import Photographs

#: Quantiles of luma.
DARKEST, DARK, PAPER, BRIGHTEST = 0.02, 0.05, 0.95, 0.98

#: Luma is like another that differs by less than this share of the contrast.
LIKE = 0.2

#: At least this share of a page is like its paper: the first under large blur, which leaves little of it.
LEAST_PAPER_UNDER_LARGE_BLUR, LEAST_PAPER = 0.2, 0.5

#: At most this share is like its dark pixels.
MOST_DARK = 0.2


def paper_luma(photograph: Photographs, *, large_blur: bool) -> float | None:
    """Return luma of the paper if a photograph may show a page of text, None if it does not.

    Blurred pages cannot be told from other photographs for certain: what relies on this has to be judged.

    Parameters
    ----------
    photograph : Photographs
        A batch of one.
    large_blur : bool
        Whether its kernel seems to be large.
    """
    luma, usable = photograph.luma, photograph.usable
    pixels = luma.flatten() if usable is None else luma[usable]
    if pixels.numel() == 0:
        return None
    places = [round(quantile * (pixels.numel() - 1)) for quantile in (DARKEST, DARK, PAPER, BRIGHTEST)]
    # Four selections take less than half the time of sorting a photograph.
    darkest, dark, paper, brightest = (pixels.kthvalue(place + 1).values for place in places)
    of_paper = (pixels - paper).abs() < LIKE * (paper - darkest)
    of_dark = (pixels - dark).abs() < LIKE * (brightest - dark)
    least = LEAST_PAPER_UNDER_LARGE_BLUR if large_blur else LEAST_PAPER
    shares = [mask.to(pixels).mean() for mask in (of_paper, of_dark)]
    # Read together: on a GPU the host waits once.
    level, like_paper, like_dark = torch.stack([paper, *shares]).tolist()
    return level if like_paper >= least and like_dark <= MOST_DARK else None
