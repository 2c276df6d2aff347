module beside

go 1.24

require libconfer/confer v0.0.0

replace libconfer/confer => ../../../bindings/go
