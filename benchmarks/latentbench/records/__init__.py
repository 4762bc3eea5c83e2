from latentbench.core.callable_package import callable_as_api

callable_as_api(__name__)
