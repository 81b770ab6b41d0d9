// Package aws tests the aws provider against moto, a server that knows the
// calls and the state of AWS, on loopback.
//
// moto is not AWS: it evaluates neither conditions nor session policies, and
// it has no propagation. So the effect is judged apart: the policies that are
// stored at the end are read through a second client (boto3) and given to an
// independent judge of policies (iam-simulate), together with the session
// policies that were asked for. The provider reaches moto through a gate that
// can see, cut and fail its calls.
package aws
