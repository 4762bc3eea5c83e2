"""Whose code a file may name: ours for its purpose, that of installed plug-ins, and any other if the user says so."""

from __future__ import annotations

import os
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.plugins import TRUST as VARIABLE
from latentbench.core.plugins import packages

#: Where a dataset's entry may find the functions that load or generate it.
OURS = ("latentbench.data.loaders.", "latentbench.data.generated.")


def check_import(function: str) -> None:
    """Refuse to import what a YAML file names, unless it is known to be code for that purpose.

    Args:
        function: ``module:name``.

    Raises:
        UserError: neither ours nor an installed plug-in's, and the user has not said ``--trust``.
    """
    module = function.partition(":")[0]
    if f"{module}.".startswith(OURS) or module.partition(".")[0] in packages():
        return
    if os.environ.get(VARIABLE) == "1":
        return
    raise UserError(
        f"{function!r} is code from outside latentbench and its installed plug-ins",
        fix="install the plug-in that provides it, or say `latentbench --trust …` if you know what it does",
    )


def check_found(function: str, found: Any) -> None:
    """Refuse what one of our modules has only imported, such as a class of the standard library.

    Args:
        function: ``module:name``, which `check_import` has let pass.
        found: what it names.

    Raises:
        UserError: it is defined elsewhere.
    """
    home = getattr(found, "__module__", None)
    if function.startswith(OURS) and not f"{home}.".startswith(OURS):
        raise UserError(f"{function!r} is no loader or generator of latentbench", fix="name one that is")
