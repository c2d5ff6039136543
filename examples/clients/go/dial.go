package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// A server is where it is, and the files with what is needed to be let in.
type server struct {
	address, ca, certificate, key, token string
}

// dial connects in plaintext, or by TLS if there is a ca.
func dial(s server) (*grpc.ClientConn, error) {
	if s.ca == "" {
		if s.certificate != "" || s.key != "" || s.token != "" {
			return nil, errors.New("without TLS, who is there could be anybody, and would be shown the credentials")
		}
		return grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	authorities, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(authorities) {
		return nil, errors.New(s.ca + " has no certificate")
	}
	if s.certificate != "" {
		// The files are read for each connection, so that a new certificate counts with the next one.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(s.certificate, s.key)
			return &certificate, err
		}
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}
	if s.token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(s.token)))
	}
	return grpc.NewClient(s.address, options...)
}

// A bearer is the file of a token. It is read for each call, so that a new token counts at once.
type bearer string

func (file bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

// RequireTransportSecurity keeps the token from ever being sent in plaintext.
func (bearer) RequireTransportSecurity() bool { return true }
