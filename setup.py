"""The packages of a wheel: the experiment files of `configs/` travel inside `g2ajax`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["g2ajax*", "tfds_builders*"]), "g2ajax.configs"],
    package_dir={"g2ajax.configs": "configs"},
)
