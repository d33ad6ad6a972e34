"""Reference models: the recipe of the model that ships with the package, and exporters of timm models.

Installed as `qcompiler.models`. torch, timm and scikit-learn are imported by the functions that need them, so that the
compiler itself works without.
"""

if __name__ != "qcompiler.models":
    # `import models` inside the checkout would make a second copy of every module and class.
    raise ImportError("import qcompiler.models, not the folder of the checkout")
