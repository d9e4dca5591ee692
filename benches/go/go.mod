module wealdbench

go 1.19
