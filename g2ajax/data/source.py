"""Opens a dataset of crops or of tracklets by name; whole frames give their people as crops."""

from g2ajax.data.builders import data_root, ensure_built, make_builder, schema_of
from g2ajax.data.crop_source import Dataset, open_crops
from g2ajax.data.frame_crops import cut_out
from g2ajax.data.frame_source import open_frames
from g2ajax.data.tracklet_source import open_tracklets


def open_dataset(
    name: str, *, data_dir: str | None = None, manual_dir: str | None = None, build: bool = True
) -> Dataset:
    """Opens the dataset `name` ("agreid", "skyground/crops_small"), built once if it is missing.

    A dataset of whole frames ("g2aps") gives its people, cut out (`frame_crops.cut_out`). A row of
    a dataset of tracklets ("mars") is a tracklet; read as a crop it is the tracklet's first frame.

    One of the user's own files (`crops_from_csv`) is built again when they have changed.

    `data_dir` holds built datasets (default: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`),
    `manual_dir` the user's downloads (default: `<data_dir>/downloads/manual`).

    Raises ValueError for an unknown name and FileNotFoundError, saying where to get the files and
    where to put them, when it cannot be built.
    """
    root = data_root(data_dir)
    builder = make_builder(name, root)
    schema = schema_of(builder)
    if schema == "frames":
        return cut_out(open_frames(name, data_dir=data_dir, manual_dir=manual_dir, build=build))
    builder = ensure_built(builder, name, root, manual_dir=manual_dir, build=build)
    return (open_tracklets if schema == "tracklets" else open_crops)(name, builder)
