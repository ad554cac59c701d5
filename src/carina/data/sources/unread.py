"""Public sets that no reader of their own knows: they are here for what they are made of.

Their films can still be compiled, as a folder for each class or with a table. What nobody stated where
we looked is ``unknown``.
"""

from __future__ import annotations

from carina.data.sources.public import UNKNOWN, PublicSet
from carina.data.sources.way import ByHand, Download, Kaggle, github

_MEDMNIST = "Yang et al.: MedMNIST v2. Scientific Data 2023"
_ZENODO = "https://zenodo.org/record/6496656/files/"

UNREAD: tuple[PublicSet, ...] = (
    PublicSet(
        "nih_sample",
        "Sample of ChestX-ray14, 5,606 films",
        "no restrictions on use; cite the paper and name the NIH Clinical Center",
        "Wang et al.: ChestX-ray8: hospital-scale chest X-ray database and benchmarks. CVPR 2017",
        "from Kaggle, with an account",
        way=Kaggle("nih-chest-xrays/sample"),
        made_of=("nih",),
        reader="nih",
    ),
    PublicSet(
        "siim_pneumothorax",
        "SIIM-ACR pneumothorax segmentation",
        "as the competition's rules state",
        "Filice et al.: Crowdsourcing pneumothorax annotations using machine learning annotations on the NIH "
        "chest X-ray dataset. Journal of Digital Imaging 2020",
        "register at Kaggle and accept the rules",
        way=ByHand(
            "https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
            "register at Kaggle, accept the rules",
        ),
        made_of=("nih",),
    ),
    PublicSet(
        "google_nih",
        "Four findings on ChestX-ray14, adjudicated labels",
        "labels only; the films are those of NIH",
        "Majkowska et al.: Chest radiograph interpretation with deep learning models. Radiology 2020",
        "labels from Google Cloud; films from the NIH",
        way=ByHand(
            "https://cloud.google.com/healthcare/docs/resources/public-datasets/nih-chest",
            "sign in at Google Cloud for the labels, and fetch nih for the films",
        ),
        made_of=("nih",),
    ),
    PublicSet(
        "chestmnist",
        "ChestMNIST",
        "that of its origin",
        _MEDMNIST,
        "free download from Zenodo",
        way=Download(f"{_ZENODO}chestmnist.npz", "chestmnist.npz", "md5:02c8a6516a18b556561a56cbdd36c4a8"),
        made_of=("nih",),
    ),
    PublicSet(
        "pneumoniamnist",
        "PneumoniaMNIST",
        "CC BY 4.0",
        _MEDMNIST,
        "free download from Zenodo",
        ages=(1, 5),
        way=Download(
            f"{_ZENODO}pneumoniamnist.npz", "pneumoniamnist.npz", "md5:28209eda62fecd6e6a2d98b1501bb15f"
        ),
        made_of=("chest_xray",),
    ),
    PublicSet(
        "tbx11k",
        "TBX11K",
        "for research, not for commerce",
        "Liu et al.: Rethinking computer-aided tuberculosis diagnosis. CVPR 2020",
        "from the authors",
        way=ByHand("https://mmcheng.net/tb/", "follow the authors' links to Google Drive or Baidu"),
        made_of=("shenzhen", "montgomery", "da_db"),
    ),
    PublicSet(
        "da_db",
        "DA and DB, two small tuberculosis sets",
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
    ),
    PublicSet(
        "sirm",
        "COVID-19 cases of the Italian Society of Medical Radiology",
        "as the society states",
        "Società Italiana di Radiologia Medica, 2020",
        "from the society's pages",
        way=ByHand("https://sirm.org", "look for its COVID-19 cases"),
    ),
    PublicSet(
        "ricord",
        "RICORD: RSNA international COVID-19 open radiology database",
        "as The Cancer Imaging Archive states",
        "Tsai et al.: The RSNA international COVID-19 open radiology database. Radiology 2021",
        "from The Cancer Imaging Archive",
        way=ByHand("https://www.cancerimagingarchive.net", "look for MIDRC-RICORD-1C"),
    ),
    PublicSet(
        "stony_brook",
        "Stony Brook University COVID-19 positive cases",
        "as The Cancer Imaging Archive states",
        UNKNOWN,
        "from The Cancer Imaging Archive",
        way=ByHand("https://www.cancerimagingarchive.net", "look for COVID-19-NY-SBU"),
    ),
    PublicSet(
        "bimcv_covid19",
        "BIMCV-COVID19+",
        "as LICENSE.md of its repository states",
        "de la Iglesia Vayá et al.: BIMCV COVID-19+: a large annotated dataset of RX and CT images from "
        "COVID-19 patients. arXiv 2006.01174, 2020",
        "from the Medical Imaging Databank of the Valencia region",
        way=ByHand("https://github.com/BIMCV-CSUSP/BIMCV-COVID-19", "follow its instructions"),
    ),
    PublicSet(
        "padchest",
        "PadChest",
        "as its keepers state",
        "Bustos et al.: PadChest: a large chest x-ray image dataset with multi-label annotated reports. "
        "Medical Image Analysis 2020",
        "register with BIMCV",
        way=ByHand("https://bimcv.cipf.es/bimcv-projects/padchest/", "register with BIMCV"),
    ),
    PublicSet(
        "covidx",
        "COVIDx",
        "each image that of its origin",
        "Wang, Lin, Wong: COVID-Net. Scientific Reports 2020",
        "put together from its parts with the authors' scripts",
        way=ByHand("https://github.com/lindawangg/COVID-Net", "fetch its parts and run the authors' scripts"),
        made_of=(
            "covid_chestxray",
            "figure1",
            "actualmed",
            "radiography",
            "rsna",
            "ricord",
            "stony_brook",
            "bimcv_covid19",
        ),
    ),
    PublicSet(
        "darkcovidnet",
        "DarkCovidNet",
        "each image that of its origin",
        "Ozturk et al.: Automated detection of COVID-19 cases using deep neural networks with X-ray images. "
        "Computers in Biology and Medicine 2020",
        "free download from GitHub; read as a folder for each class",
        way=github("muhammedtalo/COVID-19"),
        made_of=("covid_chestxray", "nih"),
    ),
)
