module tusd-py/interop/tusgo

go 1.21

require github.com/bdragon300/tusgo v0.1.0
