module libconfer/confer

go 1.24
