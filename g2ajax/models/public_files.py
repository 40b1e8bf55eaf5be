"""The known public files of weights of the field, each with its address and published score.

Facts from the publishers' pages; nothing is downloaded and no score was measured here. A sha256 is given
where the publisher states it (OpenAI's addresses contain it) or a copy was at hand.
"""

import dataclasses
import pathlib

from g2ajax.interop.model_folder import sha256


@dataclasses.dataclass(frozen=True)
class PublicFile:
    """One published file."""

    name: str
    architecture: str
    """Name for `g2ajax.load`; "" for a file from which training starts (`--config.init.file`)."""
    where: str
    licence: str = "not stated"
    trained_on: str = ""
    published: str = ""
    """Published score, with its protocol."""
    sha256: str = ""
    """All of its digits, or its first ones where a file's name has them."""
    megabytes: float = 0.0
    """Size; 0: not known here."""


TORCHREID = "torchreid's model zoo (docs/MODEL_ZOO.md of KaiyangZhou/deep-person-reid), or hf:kaiyangzhou/osnet"
FASTREID = "fast-reid's model zoo (MODEL_ZOO.md of JDAI-CV/fast-reid, releases v0.1.1)"
CLIP = "openaipublic.azureedge.net/clip/models/<sha256>/"
MARKET = "Market-1501, single query: rank-1 {}, mAP {}"


def _osnet(width: str, rank1: float, mean: float, **more: str | float) -> PublicFile:
    return PublicFile(
        f"osnet_{width}_market1501",
        f"osnet_{width}",
        TORCHREID,
        "MIT (code; the weights' own is not stated)",
        "Market-1501",
        MARKET.format(rank1, mean),
        **more,
    )


def _fastreid(short: str, label: str, rank1: float, mean: float) -> PublicFile:
    return PublicFile(
        f"market_{label}.pth",
        f"fastreid_{short}",
        FASTREID,
        "Apache-2.0 (code; the weights' own is not stated)",
        "Market-1501",
        MARKET.format(rank1, mean),
    )


def _clip(name: str, architecture: str, digest: str) -> PublicFile:
    return PublicFile(
        name, architecture, CLIP, "MIT", "400 million pairs of images and texts", sha256=digest
    )


PUBLIC_FILES = (
    _osnet("x1_0", 94.2, 82.6),
    _osnet("x0_75", 93.7, 81.2),
    _osnet("x0_5", 92.5, 79.8),
    _osnet(
        "x0_25",
        91.2,
        75.0,
        sha256="c0ff09177a21417a19bc73bbf5af4eb5d2b097c2074ed35e67819ee6cd93612c",
        megabytes=2.5,
    ),
    PublicFile(
        "resnet50_fc512_market1501",
        "resnet50_fc512",
        TORCHREID,
        "MIT (code; the weights' own is not stated)",
        "Market-1501",
        MARKET.format(90.8, 75.3),
    ),
    PublicFile(
        "osnet_ibn_x1_0_msmt17",
        "osnet_ibn_x1_0",
        TORCHREID,
        "MIT (code; the weights' own is not stated)",
        "MSMT17, all images",
        MARKET.format(66.5, 37.2),
    ),
    PublicFile(
        "osnet_ain_x1_0_msmt17",
        "osnet_ain_x1_0",
        TORCHREID,
        "MIT (code; the weights' own is not stated)",
        "MSMT17, all images",
        MARKET.format(70.1, 43.3),
    ),
    _fastreid("bot_r50", "bot_R50", 94.4, 86.1),
    _fastreid("bot_r50", "bot_R50-ibn", 94.9, 87.6),
    _fastreid("bot_r101", "bot_R101-ibn", 95.4, 88.9),
    _fastreid("agw_r50", "agw_R50", 95.3, 88.2),
    _fastreid("agw_r50", "agw_R50-ibn", 95.1, 88.7),
    _fastreid("agw_r101", "agw_R101-ibn", 95.5, 89.5),
    _fastreid("sbs_r50", "sbs_R50", 95.4, 88.2),
    _fastreid("sbs_r50", "sbs_R50-ibn", 95.7, 89.3),
    _fastreid("sbs_r101", "sbs_R101-ibn", 96.3, 90.3),
    _fastreid("mgn_r50", "mgn_R50-ibn", 95.8, 89.7),
    _clip(
        "ViT-B-32.pt",
        "clip_vit_b32",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    _clip(
        "ViT-B-16.pt",
        "clip_vit_b16",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    ),
    _clip(
        "ViT-L-14.pt",
        "clip_vit_l14",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    PublicFile(
        "resnet50-19c8e357.pth",
        "",
        "torchvision's model zoo",
        "BSD-3-Clause (code)",
        "ImageNet-1k",
        sha256="19c8e357",
    ),
    PublicFile(
        "jx_vit_base_p16_224-80ecf9dd.pth",
        "",
        "timm's releases",
        "Apache-2.0 (code)",
        "ImageNet-21k, then 1k",
        sha256="80ecf9dd",
    ),
    PublicFile(
        "osnet_x1_0_imagenet.pth",
        "",
        TORCHREID,
        "MIT (code; the weights' own is not stated)",
        "ImageNet-1k",
    ),
)


def known_file(path: pathlib.Path) -> tuple[PublicFile | None, str]:
    """The known file that a local one is, by its sha256, else by its name; and a sentence about both.

    Raises FileNotFoundError for a missing file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    digest = sha256(path)
    for one in PUBLIC_FILES:
        if one.sha256 and digest.startswith(one.sha256):
            return one, f"{path} is {one.name}: its sha256 is the published one"
    stem = path.stem.lower()
    for one in PUBLIC_FILES:
        if pathlib.Path(one.name).stem.lower() == stem:
            if one.sha256:
                return one, (
                    f"{path} is called {one.name}, but is another file: sha256 {digest}, published "
                    f"{one.sha256}"
                )
            return (
                one,
                f"{path} is called {one.name}; no sha256 of it is known (this one: {digest})",
            )
    return None, f"{path} (sha256 {digest}) is none of the files known here"
