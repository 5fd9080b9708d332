"""The figures that the original study reports, and the stages of a pipeline that correspond to them.

The study's accuracies are validation accuracies of the best epoch. Imports nothing, so that every module may import it.
"""

from __future__ import annotations

from dataclasses import dataclass

# The notebook's LeNet-5, and the images it was trained on.
STUDY_VAL_ACCURACY = 0.8982
STUDY_TRAIN_IMAGES = 47_965
# The best model of the study's Hyperband search, retrained, and our name of the space that it searched.
STUDY_TUNED_VAL_ACCURACY = 0.8940
STUDY_SPACE = "notebook"
# The first and the last of its ten folds.
STUDY_FIRST_FOLD, STUDY_LAST_FOLD = 0.9838, 0.9925
# Its three frozen backbones, with the input of our recipe notebook.
STUDY_TRANSFER_ACCURACIES = {"resnet152v2": 0.7231, "efficientnetb1": 0.1001, "vgg16": 0.1000}


@dataclass(frozen=True)
class StudyRow:
    """One row of the study's table.

    Attributes:
        key: names the row; that of a backbone's row is the backbone's name.
        title: its name in tables and figures.
        val_accuracy: what the study reports; None for a model that it describes and does not train.
        reproduced: the pipeline's stage that repeats the study's protocol.
        sound: the stage of the sound protocol. It may be the same: every train run is measured on the test images.
    """

    key: str
    title: str
    val_accuracy: float | None
    reproduced: str
    sound: str


LENET5_1998 = StudyRow("lenet5-1998", "LeNet-5 as published in 1998", None, "train-lenet5-1998", "train-lenet5-1998")
LENET5 = StudyRow("lenet5", "LeNet-5 as the notebook builds it", STUDY_VAL_ACCURACY, "train-lenet5", "train-lenet5")
HYPERBAND = StudyRow(
    "hyperband", "Hyperband's best, retrained", STUDY_TUNED_VAL_ACCURACY, "tune-notebook", "tune-extended"
)
FIRST_FOLD = StudyRow("first-fold", "Ten folds, the first", STUDY_FIRST_FOLD, "crossval-lenet5", "crossval-lenet5")
LAST_FOLD = StudyRow("last-fold", "Ten folds, the last", STUDY_LAST_FOLD, "crossval-lenet5", "crossval-lenet5")
BACKBONE_ROWS = tuple(
    StudyRow(name, f"{title}, frozen", accuracy, f"transfer-{name}-notebook", f"transfer-{name}-sound")
    for title, (name, accuracy) in zip(
        ("ResNet152V2", "EfficientNetB1", "VGG16"), STUDY_TRANSFER_ACCURACIES.items(), strict=True
    )
)

# In the study's order.
ROWS: tuple[StudyRow, ...] = (LENET5_1998, LENET5, HYPERBAND, FIRST_FOLD, LAST_FOLD, *BACKBONE_ROWS)
