import pytest

from tests.interop.models import backbone_file


@pytest.fixture(scope="module")
def vit():
    return backbone_file("vit_test")


@pytest.fixture(scope="module")
def resnet():
    return backbone_file("resnet_tiny")
