import ncnn,sys
