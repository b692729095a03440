"""The presets: literal values, so that the command line reads them without importing torch.

A name is a detector's file stem or a variant of one; `config` is what the detector's `from_config` takes,
`training` what its file in `edgead.training` takes, `short` what differs with fewer steps than its `below`:
EfficientAD's own rate is meant for 70,000 steps, and a few thousand hardly leave the start with it.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "simplenet": {
        "detector": "simplenet",
        "summary": "light: EfficientNet-Lite0 at strides 8 and 16, 256×256; weights come with pip",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage3", "stage5"],
            "tap_dim": 112,
            "embedding_dim": 224,
            "hidden_dim": 256,
            "geometry": {"height": 256, "width": 256},
            "score_rule": "max",
        },
        "training": {
            "meta_epochs": 12,
            "steps": 50,
            "batch_patches": 2048,
            "standardise": True,
            "noise": 0.25,
            "discriminator_rate": 1e-3,
        },
    },
    "simplenet_resnet18": {
        "detector": "simplenet",
        "summary": "ResNet-18 at strides 8 and 16, 256×256",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer2", "layer3"],
            "tap_dim": 384,
            "embedding_dim": 384,
            "hidden_dim": 384,
            "geometry": {"height": 256, "width": 256},
        },
        "training": {
            "meta_epochs": 12,
            "steps": 50,
            "batch_patches": 2048,
            "standardise": True,
            "noise": 0.25,
            "discriminator_rate": 1e-3,
        },
    },
    "simplenet_wrn50": {
        "detector": "simplenet",
        "summary": "the paper's configuration: Wide ResNet-50-2, shorter side 329, centre 288×288",
        "config": {
            "backbone": "wide_resnet50_2",
            "taps": ["layer2", "layer3"],
            "tap_dim": 1536,
            "embedding_dim": 1536,
            "hidden_dim": 1024,
            "geometry": {"height": 329, "width": 329, "mode": "shorter_side", "window": [288, 288]},
        },
        "training": {
            "meta_epochs": 40,
            "steps": 100,
            "batch_patches": 10368,
            "standardise": False,
            "noise": 0.015,
        },
    },
    "patchcore": {
        "detector": "patchcore",
        "summary": "light: EfficientNet-Lite0 at strides 8 and 16, 256×256; a bank of 4,000 patches",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage3", "stage5"],
            "geometry": {"height": 256, "width": 256},
            "score_rule": "max",
        },
        "training": {"share": 1.0, "most": 4000, "projection": 64},
    },
    "patchcore_stride16": {
        "detector": "patchcore",
        "summary": "EfficientNet-Lite0 at stride 16 alone, 256×256: a quarter of the patches, a coarser map",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage5"],
            "geometry": {"height": 256, "width": 256},
            "blur_sigma": 8.0,
            "score_rule": "max",
        },
        "training": {"share": 1.0, "most": 4000, "projection": 64},
    },
    "patchcore_wrn50": {
        "detector": "patchcore",
        "summary": "the paper's configuration: Wide ResNet-50-2, shorter side 256, centre 224×224, 10 % kept",
        "config": {
            "backbone": "wide_resnet50_2",
            "taps": ["layer2", "layer3"],
            "tap_dim": 1024,
            "embedding_dim": 1024,
            "geometry": {"height": 256, "width": 256, "mode": "shorter_side", "window": [224, 224]},
        },
        "training": {"share": 0.1, "projection": 128},
    },
    "efficientad": {
        "detector": "efficientad",
        "summary": "the paper's small networks, 256×256; 38 GMAC per image; needs a teacher's weights",
        "config": {"size": "small", "geometry": {"height": 256, "width": 256}},
        "training": {"steps": 70000},
        "short": {"below": 20000, "rate": 1e-3, "schedule": "one_cycle", "hard_share": 0.02},
    },
    "efficientad_m": {
        "detector": "efficientad",
        "summary": "the paper's medium networks, 256×256; 118 GMAC per image",
        "config": {"size": "medium", "geometry": {"height": 256, "width": 256}},
        "training": {"steps": 70000},
        "short": {"below": 20000, "rate": 1e-3, "schedule": "one_cycle", "hard_share": 0.02},
    },
    "efficientad_edge": {
        "detector": "efficientad",
        "summary": "a tenth of the small networks' work, 256×256; 3.8 GMAC; distil its teacher first",
        "config": {"size": "edge", "geometry": {"height": 256, "width": 256}},
        "training": {"steps": 70000},
        "short": {"below": 20000, "rate": 1e-3, "schedule": "one_cycle", "hard_share": 0.02},
    },
    "cpr": {
        "detector": "cpr",
        "summary": "light: EfficientNet-Lite0 at strides 4 and 8, 16 values per descriptor, 320×320",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3"],
            "dim": 16,
            "geometry": {"height": 320, "width": 320, "resampler": "opencv_linear"},
        },
        "training": {"steps": 500, "texture_steps": 500, "batch": 4},
    },
    "cpr_densenet": {
        "detector": "cpr",
        "summary": "the paper's configuration: DenseNet-201, 384 values per descriptor, 320×320",
        "config": {
            "backbone": "densenet201",
            "taps": ["denseblock1", "denseblock2"],
            "dim": 384,
            "geometry": {"height": 320, "width": 320, "resampler": "opencv_linear"},
        },
        "training": {"steps": 40000, "texture_steps": 500, "batch": 32},
    },
    "cpr_fast": {
        "detector": "cpr",
        "summary": "ResNet-18 at strides 4 and 8, 64 values per descriptor, 320×320",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2"],
            "dim": 64,
            "geometry": {"height": 320, "width": 320, "resampler": "opencv_linear"},
        },
        "training": {"steps": 40000, "texture_steps": 500, "batch": 32},
    },
    "cpr_faster": {
        "detector": "cpr",
        "summary": "ResNet-18 at strides 4 and 8, 16 values per descriptor, 320×320",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2"],
            "dim": 16,
            "geometry": {"height": 320, "width": 320, "resampler": "opencv_linear"},
        },
        "training": {"steps": 40000, "texture_steps": 500, "batch": 32},
    },
    "diffusionad": {
        "detector": "diffusionad",
        "summary": "light: 1.5 M and 1.8 M parameters, 256×256; 9.1 GMAC per image",
        "config": {
            "base": 16,
            "blocks": 1,
            "groups": 4,
            "segmentation_width": 16,
            "geometry": {"height": 256, "width": 256, "resampler": "opencv_linear"},
        },
        "training": {
            "steps": 1200,
            "batch": 4,
            "optimiser": "muon",
            "unet_rate": 1e-2,
            "segmentation_rate": 1e-2,
            "schedule": "one_cycle",
            "average": 0.99,
        },
    },
    "diffusionad_small": {
        "detector": "diffusionad",
        "summary": "half the paper's channels: 33.0 M and 7.1 M parameters, 256×256; 152 GMAC per image",
        "config": {
            "base": 64,
            "segmentation_width": 32,
            "geometry": {"height": 256, "width": 256, "resampler": "opencv_linear"},
        },
        "training": {"steps": 30000, "batch": 16},
    },
    "diffusionad_full": {
        "detector": "diffusionad",
        "summary": "the paper's networks: 131.7 M and 28.4 M parameters, 256×256; 601 GMAC per image",
        "config": {
            "base": 128,
            "segmentation_width": 64,
            "geometry": {"height": 256, "width": 256, "resampler": "opencv_linear"},
        },
        "training": {"steps": 30000, "batch": 16},
    },
    "radar": {
        "detector": "radar",
        "summary": "RADAR-style: diffusionad's denoising network once, 256×256; 3.3 GMAC per image",
        "config": {
            "base": 16,
            "blocks": 1,
            "groups": 4,
            "geometry": {"height": 256, "width": 256, "resampler": "opencv_linear"},
        },
        "training": {"steps": 2000, "batch": 4, "rate": 1e-2},
    },
    "padim": {
        "detector": "padim",
        "summary": "light: EfficientNet-Lite0 at strides 8 and 16, 100 of 152 features, 256×256; closed form",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage3", "stage5"],
            "dim": 100,
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"epsilon": 0.01},
    },
    "padim_resnet18": {
        "detector": "padim",
        "summary": "the paper's: ResNet-18, 100 of 448 features, shorter side 256, centre 224×224",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2", "layer3"],
            "dim": 100,
            "geometry": {"height": 256, "width": 256, "mode": "shorter_side", "window": [224, 224]},
        },
        "training": {"epsilon": 0.01},
    },
    "stfpm": {
        "detector": "stfpm",
        "summary": "light: two EfficientNet-Lite0 at strides 4, 8 and 16, 256×256; weights come with pip",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3", "stage5"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 400, "batch": 8, "save_every": 50},
    },
    "stfpm_resnet18": {
        "detector": "stfpm",
        "summary": "the paper's configuration: two ResNet-18, 256×256",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 600, "batch": 32},
    },
    "reverse_distillation": {
        "detector": "reverse_distillation",
        "summary": "light: EfficientNet-Lite0 at strides 4, 8 and 16, 256×256; weights come with pip",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3", "stage5"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 200, "batch": 8, "save_every": 25},
    },
    "reverse_distillation_resnet18": {
        "detector": "reverse_distillation",
        "summary": "ResNet-18, 256×256",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 1000},
    },
    "reverse_distillation_wrn50": {
        "detector": "reverse_distillation",
        "summary": "the paper's configuration: Wide ResNet-50-2, 256×256",
        "config": {
            "backbone": "wide_resnet50_2",
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 2600},
    },
    "fastflow": {
        "detector": "fastflow",
        "summary": "light: EfficientNet-Lite0 at strides 4, 8 and 16, 256×256; weights come with pip",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3", "stage5"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 400, "batch": 8, "save_every": 50},
    },
    "fastflow_resnet18": {
        "detector": "fastflow",
        "summary": "the paper's smaller configuration: ResNet-18, 256×256",
        "config": {
            "backbone": "resnet18",
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 3000},
    },
    "fastflow_wrn50": {
        "detector": "fastflow",
        "summary": "the paper's larger configuration: Wide ResNet-50-2, 256×256",
        "config": {
            "backbone": "wide_resnet50_2",
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": {"height": 256, "width": 256},
        },
        "training": {"steps": 3000},
    },
}
