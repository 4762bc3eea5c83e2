"""Each paper's folder of code as a package: ``suites/gumbel-softmax/`` is `latentbench.papers.gumbel_softmax`.

Folders that the user names with ``--plugins`` are imported in the same way. `latentbench.core.plugins` says which there
are; from here on they are importable, in worker processes and for what is unpickled, too. Folders become attributes of
this module, whatever they are called, so it uses no name of its own once it is imported.
"""

from latentbench.core.callable_package import callable_as_api
from latentbench.core.finder import install

install()
callable_as_api(__name__)
